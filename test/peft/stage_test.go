package peft_test

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/tunemesh/tunemesh/trainer/contract"
	"github.com/tunemesh/tunemesh/trainer/training"
)

// stage is what tunemesh trainer training does.
func stage() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	return contract.Run(ctx, training.Run, "TrainingAgent", os.Stdout)
}
