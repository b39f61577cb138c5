"""The tiny multilingual language model which the experiments attack, and what it knows."""
