"""The port SpeechModel by workers on Ray, on one machine or many."""
