"""The page at `/`: files that a browser reads as they are, and the routes that only the page needs."""
