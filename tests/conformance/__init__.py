"""What TF Serving's clients may rely on, from outside: run against the embedded server, and against a real one.

For a real one: write the models where it can read them with `python -m tests.serving.models DIR`, start it with
`--model_config_file=DIR/models.config --allow_version_labels_for_unavailable_models`, and set
`TF_SERVING_ADDRESS=HOST:GRPC_PORT,HOST:REST_PORT`.
"""
