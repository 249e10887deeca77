"""What a person sees while a verb works: a moving status or a plain line now and then. Other lines go to a log."""
