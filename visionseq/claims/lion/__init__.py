"""The claims of LION: long groups see far, a descriptor restores locality, generation fills objects; and detection."""
