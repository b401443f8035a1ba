"""Speed and accuracy of the very bundle that ships."""
