"""The gRPC messages and stubs of package `bridge.v1`, generated from proto/ (`make proto`)."""
