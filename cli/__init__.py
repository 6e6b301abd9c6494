"""The command line: commands, their output, the keyboard and signals. Nothing here another program would want."""
