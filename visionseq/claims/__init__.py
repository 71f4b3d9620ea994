"""Claims: each room's headline result at a size that a CPU can carry, told as it comes out."""
