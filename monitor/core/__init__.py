"""Pure arithmetic: no time, os, io, logging, threading or sockets below this package."""
