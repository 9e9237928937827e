/*
 * Numbers as systemd's properties. It writes them to the kernel's files again
 * whenever it thinks it should, so what keepers have written there has to be
 * the same.
 */
#include "systemd.h"

#include "base/cpu.h"

#define PERIOD_DEFAULT 100000
/* systemd keeps whole percents of a CPU in its files. */
#define QUOTA_STEP 10000

static int number(sd_bus_message *m, const char *property, uint64_t value) {
	return sd_bus_message_append(m, "(sv)", property, "t", value);
}

static int amount(sd_bus_message *m, const char *property, int64_t value) {
	return value == 0 ? 0 : number(m, property, value < 0 ? UINT64_MAX : (uint64_t)value);
}

static int set(sd_bus_message *m, const char *property, const ProtobufCBinaryData *bits) {
	if (bits->len == 0)
		return 0;
	int r = sd_bus_message_open_container(m, 'r', "sv");
	if (r >= 0)
		r = sd_bus_message_append(m, "s", property);
	if (r >= 0)
		r = sd_bus_message_open_container(m, 'v', "ay");
	if (r >= 0)
		r = sd_bus_message_append_array(m, 'y', bits->data, bits->len);
	if (r >= 0)
		r = sd_bus_message_close_container(m);
	return r < 0 ? r : sd_bus_message_close_container(m);
}

static int quota(sd_bus_message *m, const Bulkhead__UnitLimits *l) {
	uint64_t period = l->cpu_period_us ? l->cpu_period_us : PERIOD_DEFAULT;
	uint64_t second = UINT64_MAX;
	if (l->cpu_quota_us > 0 && (uint64_t)l->cpu_quota_us < UINT64_MAX / 1000000) {
		second = (uint64_t)l->cpu_quota_us * 1000000 / period;
		second = (second + QUOTA_STEP - 1) / QUOTA_STEP * QUOTA_STEP;
	}
	int r = l->cpu_quota_us ? number(m, "CPUQuotaPerSecUSec", second) : 0;
	return r < 0 || !l->cpu_period_us ? r : number(m, "CPUQuotaPeriodUSec", period);
}

static int cpu(sd_bus_message *m, const Bulkhead__UnitLimits *l, bool v2) {
	int r = quota(m, l);
	if (r < 0 || !l->cpu_shares)
		return r;
	return v2 ? number(m, "CPUWeight", cpu_weight(l->cpu_shares)) : number(m, "CPUShares", l->cpu_shares);
}

static int memory_v2(sd_bus_message *m, const Bulkhead__UnitLimits *l) {
	int r = l->no_swap ? number(m, "MemorySwapMax", 0) : amount(m, "MemorySwapMax", l->memory_swap_max);
	if (r >= 0)
		r = amount(m, "MemoryLow", l->memory_low);
	return r < 0 ? r : amount(m, "MemoryHigh", l->memory_high);
}

int limits_append(sd_bus_message *m, const Bulkhead__UnitLimits *l, bool v2) {
	if (!l)
		return 0;
	int r = cpu(m, l, v2);
	if (r >= 0)
		r = amount(m, "MemoryMax", l->memory_max);
	if (r >= 0)
		r = amount(m, "TasksMax", l->tasks_max);
	if (r >= 0 && v2)
		r = memory_v2(m, l);
	if (r >= 0 && v2)
		r = set(m, "AllowedCPUs", &l->cpus);
	if (r >= 0 && v2)
		r = set(m, "AllowedMemoryNodes", &l->mems);
	return r;
}
