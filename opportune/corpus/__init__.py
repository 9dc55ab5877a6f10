"""Raw text to read: documents of files and folders, held out in part, tokenised, packed into full blocks."""
