"""The terminal UI: a process of its own that watches a running bridge by its control socket.

- :mod:`.source`: the connection to the bridge: frames come, wishes go.
- :mod:`.model`: what was heard, kept for the screen.
- :mod:`.words`: numbers for narrow columns.
- :mod:`.listing`: a list of rows in columns that fit the width, with a cursor.
- :mod:`.heading`, :mod:`.flows`, :mod:`.questions`, :mod:`.entries`: the four parts of the screen.
- :mod:`.details`, :mod:`.help`: what lies over them when asked for.
- :mod:`.app`: keys, and who hears what.

Nothing else of the program imports textual. Colours are the terminal's own sixteen, on its own background: so it is
readable in light and dark, and over every ssh and tmux; with NO_COLOR there are none, and nothing is said by colour
alone.
"""
