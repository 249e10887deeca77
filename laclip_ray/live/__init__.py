"""Shows people the progress of a verb: a moving status or plain lines. Lines of libraries go to a log."""
