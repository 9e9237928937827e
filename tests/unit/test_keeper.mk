KEEPER_PARTS := $(patsubst %,$(O)/workers/keeper/%.o,inside user caps sysctl cgroup cgroup_end cgroup_v1 cgroup_v2 \
		  cgroup_devices cgroup_stats log rootfs rootfs_bare rootfs_dev rootfs_hide rootfs_cgroup shm exitcode)
OBJ_test_keeper_root := $(KEEPER_PARTS)
OBJ_test_keeper_cgroup := $(KEEPER_PARTS)
OBJ_test_keeper_log := $(KEEPER_PARTS)
