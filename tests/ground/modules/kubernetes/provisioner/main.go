// Volumes for a StorageClass of one node: every claim gets a folder of its own under a root.
//
// It asks once a second and watches nothing: a test makes a handful of claims.
package main

import (
	"context"
	"flag"
	"log"
	"os"
	"path/filepath"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/errors"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
)

const (
	class    = "folders"
	name     = "ground/folders"
	selected = "volume.kubernetes.io/selected-node"
	made     = "pv.kubernetes.io/provisioned-by"
)

type provisioner struct {
	client kubernetes.Interface
	root   string
}

// provide makes the volume of a claim; Kubernetes binds the two.
func (p provisioner) provide(ctx context.Context, claim v1.PersistentVolumeClaim) error {
	title := "pvc-" + string(claim.UID)
	folder := filepath.Join(p.root, title)
	if err := os.MkdirAll(folder, 0o777); err != nil {
		return err
	}
	// pods under `restricted` run as any user, and the umask has taken its share
	if err := os.Chmod(folder, 0o777); err != nil {
		return err
	}
	volume := &v1.PersistentVolume{
		ObjectMeta: meta.ObjectMeta{Name: title, Annotations: map[string]string{made: name}},
		Spec: v1.PersistentVolumeSpec{
			StorageClassName:              class,
			PersistentVolumeReclaimPolicy: v1.PersistentVolumeReclaimDelete,
			AccessModes:                   claim.Spec.AccessModes,
			Capacity:                      v1.ResourceList{v1.ResourceStorage: claim.Spec.Resources.Requests[v1.ResourceStorage]},
			ClaimRef: &v1.ObjectReference{
				APIVersion: "v1", Kind: "PersistentVolumeClaim",
				Namespace: claim.Namespace, Name: claim.Name, UID: claim.UID,
			},
			PersistentVolumeSource: v1.PersistentVolumeSource{HostPath: &v1.HostPathVolumeSource{Path: folder}},
		},
	}
	_, err := p.client.CoreV1().PersistentVolumes().Create(ctx, volume, meta.CreateOptions{})
	if errors.IsAlreadyExists(err) {
		return nil
	}
	return err
}

func (p provisioner) once(ctx context.Context) error {
	claims, err := p.client.CoreV1().PersistentVolumeClaims("").List(ctx, meta.ListOptions{})
	if err != nil {
		return err
	}
	for _, claim := range claims.Items {
		ours := claim.Spec.StorageClassName != nil && *claim.Spec.StorageClassName == class
		if ours && claim.Spec.VolumeName == "" && claim.Annotations[selected] != "" {
			if err := p.provide(ctx, claim); err != nil {
				return err
			}
		}
	}
	volumes, err := p.client.CoreV1().PersistentVolumes().List(ctx, meta.ListOptions{})
	if err != nil {
		return err
	}
	for _, volume := range volumes.Items {
		if volume.Annotations[made] == name && volume.Status.Phase == v1.VolumeReleased {
			if err := os.RemoveAll(filepath.Join(p.root, volume.Name)); err != nil {
				return err
			}
			err := p.client.CoreV1().PersistentVolumes().Delete(ctx, volume.Name, meta.DeleteOptions{})
			if err != nil && !errors.IsNotFound(err) {
				return err
			}
		}
	}
	return nil
}

func main() {
	config := flag.String("kubeconfig", "", "whose rights")
	root := flag.String("root", "", "where the folders lie")
	flag.Parse()
	access, err := clientcmd.BuildConfigFromFlags("", *config)
	if err != nil {
		log.Fatal(err)
	}
	p := provisioner{kubernetes.NewForConfigOrDie(access), *root}
	for range time.Tick(time.Second) {
		if err := p.once(context.Background()); err != nil {
			log.Print(err)
		}
	}
}
