"""What a network offers to those who use it without knowing it: of every network, of
every image classifier.
"""
