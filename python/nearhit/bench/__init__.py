"""Measurements side by side with what else could do the job: `nearhit bench`."""
