"""From files to training rows: shards and their readers, the schedule, the text choice, images, tokens, the stream."""
