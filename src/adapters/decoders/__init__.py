"""The AudioDecoder port: ffmpeg, pydub, and WAV without either."""
