"""The port SpeechModel by any other SpeechModel in a process of its own, which may crash and is started again."""
