"""The API's assembly: addresses, who is let in, how often, how refusals look, and the description of it all."""
