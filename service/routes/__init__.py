"""One module of routes for each part of the contract; each route declares its scope."""
