"""The REST API's own addresses: health, the feed, the OpenAPI document and its page. Apps bring theirs in their api.py."""
