"""The compiler: front ends, passes, the packer, C as output, the commands."""
