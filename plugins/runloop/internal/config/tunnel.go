package config

import (
	"strconv"
	"strings"
)

// fill puts key and port into a template of an address.
func fill(template, key string, port int) string {
	return strings.NewReplacer("{port}", strconv.Itoa(port), "{key}", key).Replace(template)
}
