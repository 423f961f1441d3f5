"""The wire formats: bytes to arrays and back, one module each. They know nothing of files or HTTP."""
