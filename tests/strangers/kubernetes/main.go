// Reads the manifests of contrib/kubernetes as Kubernetes' own types, strictly, and checks that they fit to each other.
//
// Usage: kubernetes FOLDER
package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"sigs.k8s.io/json"
	"sigs.k8s.io/yaml"
)

// The time from the end of the drain timeout to the end of the server, in seconds.
const end = 3

func main() {
	folder := os.Args[1]
	var deployment appsv1.Deployment
	var service corev1.Service
	var budget policyv1.PodDisruptionBudget
	read(folder, "deployment.yaml", &deployment, &deployment.TypeMeta, "apps/v1", "Deployment")
	read(folder, "service.yaml", &service, &service.TypeMeta, "v1", "Service")
	read(folder, "poddisruptionbudget.yaml", &budget, &budget.TypeMeta, "policy/v1", "PodDisruptionBudget")

	// A misspelt field is an error, so the check can fail.
	var wrong corev1.Service
	if decode([]byte("spec:\n  clusterIp: None\n"), &wrong) == nil {
		fail("a misspelt field was not found")
	}

	pod := deployment.Spec.Template
	podLabels := labels.Set(pod.Labels)
	for what, selector := range map[string]*metav1.LabelSelector{
		"the deployment": deployment.Spec.Selector,
		"the budget":     budget.Spec.Selector,
	} {
		selector, err := metav1.LabelSelectorAsSelector(selector)
		if err != nil || selector.Empty() || !selector.Matches(podLabels) {
			fail("%s does not select the pods: %v", what, err)
		}
	}
	if len(service.Spec.Selector) == 0 || !labels.SelectorFromSet(service.Spec.Selector).Matches(podLabels) {
		fail("the service does not select the pods")
	}
	if service.Spec.ClusterIP != corev1.ClusterIPNone {
		fail("the service is not headless")
	}

	container := pod.Spec.Containers[0]
	ports := map[string]int32{}
	for _, port := range container.Ports {
		ports[port.Name] = port.ContainerPort
	}
	for _, port := range service.Spec.Ports {
		if ports[port.TargetPort.StrVal] != port.Port {
			fail("the service's port %s leads to no port of the container", port.Name)
		}
	}
	rpc, admin := argument(container.Args, "--listen"), argument(container.Args, "--admin")
	for _, probe := range []*corev1.Probe{container.StartupProbe, container.ReadinessProbe, container.LivenessProbe} {
		var port int32
		var listen string
		switch {
		case probe.GRPC != nil:
			port, listen = probe.GRPC.Port, rpc
		case probe.HTTPGet != nil && probe.HTTPGet.Port.StrVal != "":
			port, listen = ports[probe.HTTPGet.Port.StrVal], admin
		case probe.HTTPGet != nil:
			port, listen = probe.HTTPGet.Port.IntVal, admin
		}
		if !strings.HasSuffix(listen, ":"+strconv.Itoa(int(port))) {
			fail("a probe asks port %d, and the server listens at %s", port, listen)
		}
	}
	if scraped := pod.Annotations["prometheus.io/port"]; !strings.HasSuffix(admin, ":"+scraped) {
		fail("Prometheus asks port %s, and the pages are at %s", scraped, admin)
	}

	lameDuck := seconds(container.Args, "--lame-duck")
	sum := lameDuck + seconds(container.Args, "--drain-timeout") + end
	if grace := *pod.Spec.TerminationGracePeriodSeconds; sum >= grace {
		fail("a stop may take %d s, and the pod is killed after %d s", sum, grace)
	}
	readiness := container.ReadinessProbe
	if lameDuck < int64(readiness.PeriodSeconds) {
		fail("a lame duck of %d s is over before the readiness probe looks again, after %d s", lameDuck, readiness.PeriodSeconds)
	}
	if strategy := deployment.Spec.Strategy.RollingUpdate; strategy.MaxUnavailable.IntValue() != 0 {
		fail("an update takes a pod away before another one is ready")
	}
	fmt.Printf("3 manifests are what Kubernetes reads; a stop takes %d s at most\n", sum)
}

func read(folder, name string, object any, meta *metav1.TypeMeta, version, kind string) {
	text, err := os.ReadFile(filepath.Join(folder, name))
	if err != nil {
		fail("%v", err)
	}
	if err := decode(text, object); err != nil {
		fail("%s: %v", name, err)
	}
	if meta.APIVersion != version || meta.Kind != kind {
		fail("%s is a %s of %s, and not a %s of %s", name, meta.Kind, meta.APIVersion, kind, version)
	}
}

// Decodes as the API server does if it is asked to be strict: names of fields are compared with their capitals.
func decode(text []byte, object any) error {
	asJSON, err := yaml.YAMLToJSONStrict(text)
	if err != nil {
		return err
	}
	faults, err := json.UnmarshalStrict(asJSON, object)
	return errors.Join(append(faults, err)...)
}

func argument(args []string, name string) string {
	for _, arg := range args {
		if value, found := strings.CutPrefix(arg, name+"="); found {
			return value
		}
	}
	fail("the server has no argument %s", name)
	return ""
}

func seconds(args []string, name string) int64 {
	value, err := strconv.ParseInt(argument(args, name), 10, 64)
	if err != nil {
		fail("%s: %v", name, err)
	}
	return value
}

func fail(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "error: "+format+"\n", args...)
	os.Exit(1)
}
