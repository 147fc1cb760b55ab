"""The embedded model server: TF Serving's gRPC and REST interfaces, for development, CI and small production."""
