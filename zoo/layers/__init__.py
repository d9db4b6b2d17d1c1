"""Parts that three or more papers use."""
