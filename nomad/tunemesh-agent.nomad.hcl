# A node agent on every Nomad client. See README.md for how to run it.

variable "server" {
  type        = string
  description = "address of a control-plane server, as the clients reach it"
}

variable "binary" {
  type        = string
  default     = "/usr/local/bin/tunemesh"
  description = "where the binary lies on the clients"
}

variable "datacenters" {
  type    = list(string)
  default = ["*"]
}

job "tunemesh-agent" {
  type        = "system"
  datacenters = var.datacenters

  group "agent" {
    restart {
      attempts = 10
      interval = "10m"
      delay    = "5s"
      mode     = "delay"
    }

    task "agent" {
      driver = "raw_exec"

      # The shims keep the trainers running while the agent is replaced.
      kill_signal  = "SIGTERM"
      kill_timeout = "30s"

      config {
        command = var.binary
        args = [
          "nodeagent",
          "--server", var.server,
          "--token-file", "${NOMAD_SECRETS_DIR}/token",
          "--data-dir", "/var/lib/tunemesh/agent",
          "--name", "${node.unique.name}",
          "--label", "nomad_node=${node.unique.id}",
        ]
      }

      template {
        destination = "${NOMAD_SECRETS_DIR}/token"
        perms       = "0600"
        data        = "{{ with nomadVar \"nomad/jobs/tunemesh-agent\" }}{{ .token }}{{ end }}"
      }

      resources {
        cpu    = 200
        memory = 256
      }
    }
  }
}
