"""The HTTP server: Flask routes that translate, a data plane that works, gunicorn around them."""
