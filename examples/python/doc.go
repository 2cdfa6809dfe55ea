// Package python has a plugin in Python, plugin.py, and in Go its tests alone.
package python
