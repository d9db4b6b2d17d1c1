"""Parts that three or more papers use, and the interface that every image classifier
offers.
"""
