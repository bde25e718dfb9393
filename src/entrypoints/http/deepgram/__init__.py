"""Deepgram's protocol at ``/v1/listen``: recordings by POST, live audio over a WebSocket.

Source: types of the deepgram-python-sdk, https://github.com/deepgram/deepgram-python-sdk, 7.17.0, MIT.
"""
