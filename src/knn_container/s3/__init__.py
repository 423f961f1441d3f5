"""S3: objects in as streams and files, files out as objects.

Nothing here knows a path below `/opt/ml`, an environment variable or an HTTP request, and boto3 is imported only
where it is used: an image without it trains and serves what the platform stages.
"""
