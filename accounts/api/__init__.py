"""What all of the API is built on, and its addresses about people."""
