"""OpenAI's realtime transcription sessions: speech over a WebSocket, in the events of their GA and beta protocols.

Source: types of the openai-python client, https://github.com/openai/openai-python, 3.54.0, Apache-2.0.
"""
