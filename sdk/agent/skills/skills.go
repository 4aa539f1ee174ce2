// Package skills carries a package of Python for the cells of agents: functions to look at files, to search, to edit, and to read
// documents. Agents of OpenHands know them as openhands.runtime.plugins.agent_skills.agentskills; its own name is
// openhands_rt_skills.
//
// The agent imports it.
package skills

import (
	"embed"
	"io/fs"
)

// Import is the cell that makes the functions known, as OpenHands has it, by the name that nothing in a workspace hides.
const Import = "from openhands_rt_skills import *"

//go:embed python/openhands_rt_skills/*.py python/openhands
var files embed.FS

// Files is the folder to be added to sys.path.
func Files() fs.FS {
	sub, err := fs.Sub(files, "python")
	if err != nil {
		panic(err) // The name is valid.
	}
	return sub
}
