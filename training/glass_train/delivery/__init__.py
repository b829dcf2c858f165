"""What happens to a picture between its maker and its viewer, at native resolution, computed for windows alone.

A delivery codes, rescales, blurs and turns the *whole* picture: a crop coded alone has its 8 x 8 grid at its own
corner, which no delivered picture has. A window's pixels are had without the rest of the picture all the same, bit for
bit.
"""
