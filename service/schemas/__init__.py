"""What requests and answers look like, one module a group of routes."""
