# From protobuf-c's headers: one line per message that names its descriptor by
# its C type, so that a table can go from the type to the descriptor.
/^void +[a-z0-9_]+__init$/ { sub(/__init$/, "", $2); snake = $2; next }
snake != "" && match($0, /\([A-Za-z0-9_]+ /) {
	type = substr($0, RSTART + 1, RLENGTH - 2)
	printf "#define DESCRIPTOR_%s (&%s__descriptor)\n", type, snake
	snake = ""
}
