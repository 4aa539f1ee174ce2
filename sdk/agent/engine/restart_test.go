package engine

const victimEnv = "ENGINE_TEST_VICTIM"

func victim(string) {}
