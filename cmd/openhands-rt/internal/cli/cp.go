package cli

import "github.com/spf13/cobra"

func (a *app) cpCommand() *cobra.Command { return &cobra.Command{Use: "cp"} }
