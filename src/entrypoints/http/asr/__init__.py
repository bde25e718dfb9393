"""`POST /asr` and `POST /detect-language` of whisper-asr-webservice, for the clients that speak to it."""
