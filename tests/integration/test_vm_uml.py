"""Pods in virtual machines by user-mode Linux: all that test_vm_pod.py finds by QEMU."""

import test_vm_pod

test_vm_pod.main(test_vm_pod.Uml)
