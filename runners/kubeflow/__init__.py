"""The pipeline on Kubeflow Pipelines: one container for each node, which runs TFX's launcher on the compiled graph."""
