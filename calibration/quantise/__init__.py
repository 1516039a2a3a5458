"""Place and write Q/DQ nodes, and correct weights and biases before they are rounded."""
