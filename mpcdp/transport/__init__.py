"""Who says what to whom: messages, the services that answer them, and mutual-TLS gRPC underneath."""
