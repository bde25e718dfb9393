"""How the embedded checkpoint was made: data, vocabulary, training, conversion, evaluation. Not part of the wheel."""
