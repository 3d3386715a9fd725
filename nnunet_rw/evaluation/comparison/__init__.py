"""Is one trainer better than another?"""
