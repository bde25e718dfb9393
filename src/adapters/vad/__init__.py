"""The VoiceActivityDetector port."""
