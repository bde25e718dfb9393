"""OpenAI's Audio API: transcriptions, translations, models and Realtime."""
