"""The composition root: the web application and the commands, each made of the container's objects.

Nothing is imported here: an assistant that starts the command waits for its first answer.
"""
